"""`zoo tune-defaults`: the search for settings that nobody picked by hand."""
