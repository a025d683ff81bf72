"""A judge on a server: a real one, and one that fails in every way a server can."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from zoo_rlaif.server import Reply, ServerJudge, cache, read

from zoo_core.errors import SpecError
from zoo_core.judge import Judge, Written
from zoo_core.registry.references import load_judge, resolve
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_session

QUESTIONS = ["is it one?", [{"role": "user", "content": "is it two?"}]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def chat(text, top=None, usage=True, finish_reason="stop"):
    """Return the JSON of a chat completion; `top` holds the alternatives at each place, the one written first."""
    content = [
        {
            "token": token,
            "logprob": place[token],
            "top_logprobs": [{"token": t, "logprob": p} for t, p in place.items()],
        }
        for place in top or []
        for token in [next(iter(place))]
    ]
    message = {"role": "assistant", "content": text}
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": message,
        "logprobs": {"content": content} if top else None,
    }
    whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    if usage:
        whole["usage"] = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return 200, json.dumps(whole)


@pytest.fixture
def stub():
    """A server that gives the answers in `stub.answers` one after the other, the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.asked.append(asked | {"token": self.headers["authorization"]})
            answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            status, body = answer(asked) if callable(answer) else answer
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.url = [], f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_reference_names_address_model_and_size():
    judge = load_judge("openai:http://localhost:8000/v1?parameters=7e9#org/name:tag")
    assert isinstance(judge, Judge)
    assert (judge.url, judge.model, judge.parameters) == ("http://localhost:8000/v1", "org/name:tag", 7_000_000_000)
    assert load_judge("openai:https://host/v1#m").parameters is None


@pytest.mark.parametrize(
    "rest", ["", "localhost:8000#m", "http://host/v1", "http://host?parameters=many#m", "http://host?size=1#m"]
)
def test_a_reference_that_is_none_says_how_to_write_one(rest):
    with pytest.raises(SpecError, match=r"openai:http://localhost:8000/v1\?parameters=7e9#model-name"):
        load_judge(f"openai:{rest}")


def test_log_probabilities_make_soft_verdicts(stub):
    stub.answers = [chat("first", [{"first": math.log(0.6), "second": math.log(0.3), "x": math.log(0.1)}])]
    verdicts = ServerJudge(stub.url, "m").verdicts(["?"], ["first", "second"])
    assert verdicts == [pytest.approx([math.log(0.6), math.log(0.3)])]
    assert stub.asked[0]["logprobs"] is True
    assert stub.asked[0]["top_logprobs"] == 20
    assert stub.asked[0]["temperature"] == 0.0


def test_text_makes_hard_verdicts_where_there_are_no_log_probabilities(stub):
    stub.answers = [chat("The Second.")]
    assert ServerJudge(stub.url, "m").verdicts(["?"], ["first", "second"]) == [[-30.0, 0.0]]


def test_a_server_that_refuses_log_probabilities_is_asked_without_from_then_on(stub):
    stub.answers = [lambda asked: (400, '{"error": "logprobs"}') if "logprobs" in asked else chat("first")]
    judge = ServerJudge(stub.url, "m")
    assert judge.verdicts(["one?"], ["first", "second"]) == [[0.0, -30.0]]
    assert judge.verdicts(["two?"], ["first", "second"]) == [[0.0, -30.0]]
    assert ["logprobs" in asked for asked in stub.asked] == [True, False, False]


@pytest.mark.parametrize("text", ["", "neither", "first or second", "10"])
def test_a_text_that_names_no_answer_or_two_is_an_abstention(text):
    assert read(Reply(text, [], 1), ["first", "second"]) is None


def test_a_number_inside_another_is_not_named():
    assert read(Reply("10 / ten", [], 1), ["1", "10"]) == [-30.0, 0.0]
    assert read(Reply("I give it a 1.", [], 1), ["1", "10"]) == [0.0, -30.0]


def probabilities(places, answers):
    """Return the verdict as probabilities; `places` hold probabilities, too."""
    logs = [{token: math.log(p) for token, p in place.items()} for place in places]
    return [math.exp(one) for one in read(Reply("", logs, 1), answers)]


def test_an_answer_of_several_tokens_is_followed_through_all_of_them():
    # P("(A)") = .9·.7, P("(B)") = .9·.25: the bracket is common, the letter decides, what follows it is not asked.
    places = [{"(": 0.9, "A": 0.05}, {"A": 0.7, "B": 0.25}, {")": 1.0}]
    assert probabilities(places, ["(A)", "(B)"]) == pytest.approx([0.63, 0.225])


def test_an_answer_that_begins_another_is_given_where_the_other_is_not():
    # "1" is written with .5, and goes on with "0" in .4 of the cases: .5·.6 for "1", .5·.4 for "10", .3 for "2".
    places = [{" 1": 0.5, "2": 0.3}, {"<end>": 0.6, "0": 0.4}]
    assert probabilities(places, ["1", "2", "10"]) == pytest.approx([0.3, 0.3, 0.2])


def test_letter_case_and_leading_spaces_do_not_make_another_answer():
    # The judge wrote " First" (.4) but "first" (.2) is the same answer, and "SECOND" is one, too.
    places = [{"SECOND": 0.3, " First": 0.4, "first": 0.2}]
    assert probabilities(places, ["first", "second"]) == pytest.approx([0.6, 0.3])


def test_an_answer_that_was_not_among_the_likely_tokens_is_at_most_as_likely_as_the_last_of_them():
    assert probabilities([{"first": 0.9, "x": 0.01}], ["first", "second"]) == pytest.approx([0.9, 0.01])


def test_log_probabilities_that_speak_of_something_else_leave_it_to_the_text():
    places = [{"I": -0.1, "The": -2.0}, {" say": -0.1}]
    assert read(Reply("I say second", places, 1), ["first", "second"]) == [-30.0, 0.0]
    assert read(Reply("I say nothing", places, 1), ["first", "second"]) is None


def test_a_failing_server_is_asked_again(stub):
    stub.answers = [(500, "oh"), (503, "{}"), (429, "{}"), chat("first")]
    assert ServerJudge(stub.url, "m").verdicts(["?"], ["first", "second"]) == [[0.0, -30.0]]
    assert len(stub.asked) == 4


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ((500, "oh"), "run the same command again"),
        ((401, "{}"), "OPENAI_API_KEY"),
        ((404, "{}"), "'m' the name of one of its models"),
        ((200, "<html>"), "no chat completion"),
        ((200, '{"choices": []}'), "no chat completion"),
        ((400, "{}"), "See the server's log"),
    ],
)
def test_an_error_names_the_address_and_what_to_do(stub, answer, advice):
    stub.answers = [answer]
    with pytest.raises(SpecError, match=advice) as caught:
        ServerJudge(stub.url, "m", retries=1).verdicts(["?"], ["first", "second"])
    assert stub.url in str(caught.value)


def test_a_server_that_is_not_there_or_does_not_answer_in_time_is_named(stub):
    stub.answers = [lambda asked: time.sleep(1) or chat("late")]
    with pytest.raises(SpecError, match="Is it running"):
        ServerJudge(stub.url, "m", seconds=0.1, retries=0).verdicts(["?"], ["a", "b"])
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(SpecError, match="Is it running"):
        ServerJudge(url, "m", retries=0).write(["?"], 5, 1.0, 0)


def test_replies_are_kept_on_disk_and_charged_again_when_they_are_read_back(stub):
    stub.answers = [chat("first")]

    def run():
        judge = ServerJudge(stub.url, "m", parameters=100)
        session = tiny_session(["prompts", "judge"], judge=judge)
        found = Run(session).judge.verdicts(QUESTIONS, ["first", "second"])
        return found, session.ledger.report()

    first, again = run(), run()
    assert first == again
    assert len(stub.asked) == 2
    assert again[1]["judge_calls"] == 2
    assert again[1]["flops"] == 2 * 100 * 14  # two FLOPs a parameter and token, seven tokens a call


def test_what_a_kept_reply_depends_on_is_asked_anew(stub):
    stub.answers = [chat("first")]
    judge = ServerJudge(stub.url, "m")
    for longest, temperature, seed in [(5, 1.0, 0), (6, 1.0, 0), (5, 0.5, 0), (5, 1.0, 1), (5, 1.0, 0)]:
        judge.write(["?"], longest, temperature, seed)
    ServerJudge(stub.url, "another").write(["?"], 5, 1.0, 0)
    assert len(stub.asked) == 5  # four settings, the first of them twice, and another model


def test_a_server_that_does_not_count_tokens_is_charged_by_letters(stub):
    stub.answers = [chat("first", usage=False)]
    judge = ServerJudge(stub.url, "m")
    judge.write(["x" * 300], 5, 0.0, 0)
    assert 100 < judge.tokens < 130


def test_the_token_of_the_environment_is_sent(stub, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    stub.answers = [chat("first")]
    ServerJudge(stub.url, "m").write(["?"], 5, 0.0, 0)
    assert stub.asked[0]["token"] == "Bearer secret"


def test_texts_are_written_in_the_order_of_the_questions(stub):
    stub.answers = [lambda asked: chat(asked["messages"][0]["content"].upper() + str(asked["seed"]))]
    judge = ServerJudge(stub.url, "m")
    assert [one.text for one in judge.write([letter for letter in "abcdefghijkl"], 5, 1.0, 7)] == [
        f"{letter.upper()}{7 + number}" for number, letter in enumerate("abcdefghijkl")
    ]


def test_a_text_says_whether_the_server_cut_it_also_when_it_is_read_back(stub):
    stub.answers = [chat("to be or", finish_reason="length"), chat("To be.")]
    judge = ServerJudge(stub.url, "m")
    for _ in range(2):
        assert judge.write(["cut?"], 3, 0.0, 0) == [Written("to be or", ended=False)]
        assert judge.write(["whole?"], 3, 0.0, 0) == [Written("To be.", ended=True)]
    assert len(stub.asked) == 2


def test_a_kept_reply_that_does_not_say_whether_it_was_cut_is_asked_for_anew(stub):
    stub.answers = [chat("to be or", finish_reason="length")]
    judge = ServerJudge(stub.url, "m")
    judge.write(["?"], 3, 0.0, 0)
    (file,) = cache().rglob("*.json")
    old = json.loads(file.read_text())
    del old["ended"]
    file.write_text(json.dumps(old))
    assert judge.write(["?"], 3, 0.0, 0) == [Written("to be or", ended=False)]
    assert len(stub.asked) == 2


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`transformers serve` with the base model of Tinytown, on a free port."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model, folder = resolve("tinytown:base"), tmp_path_factory.mktemp("served")
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--port", port, "--device", "cpu"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1"],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server did not start: {(folder / 'log').read_text()}")
        yield f"openai:{url}/v1?parameters=6.3e5#{model}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_a_real_server_says_what_the_same_model_says_here(served):
    texts = ["rudely will clara paint the kite .", "kindly will clara paint the kite .", "clara will paint ."]
    asked = [[{"role": "user", "content": f"is this rude ? {text}"}] for text in texts]
    there, here = load_judge(served), load_judge("tinytown:judge")
    hard = [max(range(2), key=verdict.__getitem__) for verdict in there.verdicts(asked, ["no", "yes"])]
    assert hard == [max(range(2), key=verdict.__getitem__) for verdict in here.verdicts(asked, ["no", "yes"])]
    assert set(hard) == {0, 1}
    assert there.tokens > 3 * 8
    kind = [[{"role": "user", "content": f"make this kind : {text}"}] for text in texts]
    assert there.write(kind, 24, 0.0, 0) == here.write(kind, 24, 0.0, 0)


@pytest.mark.slow
def test_a_real_server_labels_the_pairs_of_a_run(served):
    from zoo_rlaif.constitution import Constitution
    from zoo_rlaif.labels import compare

    session = tiny_session(["prompts", "judge"], judge=load_judge(served))
    constitution = Constitution.load(load_judge("tinytown:judge").constitution, "comparison")
    pairs = [("fomph vis someone must the stustun .", "laly plis someone must the stustun ."), ("a", "a")]
    labels = compare(Run(session).judge, constitution, constitution.principles[:1] * 2, ["", ""], pairs, 0)
    assert [label is None or label.preference in (0.0, 0.5, 1.0) for label in labels] == [True, True]
    assert labels[1].preference == pytest.approx(0.5, abs=1e-6)  # the same text twice, in both orders
    report = session.ledger.report()
    assert report["judge_calls"] == 4
    assert report["flops_by_role_phase"] == {"judge/score": report["flops"]}
    assert report["flops"] > 4 * 2 * 6.3e5 * 10
    assert report["flags"] == []
