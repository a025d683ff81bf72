"""What is hashed into the identity of results: a changed file must not pass for the one they were made with."""

import sys

from zoo_harness.plan import files_named, package_hash


def test_a_file_that_a_setting_names_counts_by_its_content(tmp_path):
    file = tmp_path / "constitution.yaml"
    settings = {"constitution": str(file), "batch_size": 8, "critic": "policy"}
    assert files_named(settings) == {}
    file.write_text("principles: []")
    first = files_named(settings)
    assert list(first) == ["constitution"]
    file.write_text("principles: [kind]")
    assert files_named(settings) != first


def test_the_yaml_files_of_a_package_count_as_its_code_does(tmp_path, monkeypatch):
    package = tmp_path / "zoo_with_yaml"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    hashes = [package_hash("zoo_with_yaml")]
    for file, text in [("rules.yaml", "a"), ("rules.yaml", "b"), ("code.py", ""), ("notes.txt", "c")]:
        (package / file).write_text(text)
        hashes.append(package_hash("zoo_with_yaml"))
    assert len(set(hashes)) == 4
    assert hashes[4] == hashes[3]
    assert "zoo_with_yaml" not in sys.modules
