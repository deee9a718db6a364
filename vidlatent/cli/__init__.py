"""Words and colours: parse, call a job, show what came of it."""
