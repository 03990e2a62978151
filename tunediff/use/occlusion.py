"""Occlusion: a text without each of its words, to see which of them an answer depends on."""

import re

MAX_PIECES = 128  # pieces of a text, left out in turn

# No white space; of a script that puts none between its words, one character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def leave_out(text: str) -> list[tuple[str, str]]:
    """The words of a text, each with what the text is without it; runs of words where they are too many."""
    words = [match.span() for match in WORD.finditer(text)]
    size = -(-len(words) // MAX_PIECES)
    runs = [(words[i][0], words[min(i + size, len(words)) - 1][1]) for i in range(0, len(words), size)]
    # The space behind a run goes with it, so that two spaces do not meet.
    nexts = [start for start, _ in runs[1:]] + [len(text)]
    return [
        (text[start:end], (text[:start] + text[after:]).strip())
        for (start, end), after in zip(runs, nexts, strict=True)
    ]
