"""Its word reached Prometheus."""

from platformlib.checks import Check, Found
from platformlib.components.proving import Context


def checks(context: Context) -> list[Check]:
    """One greeting."""
    word = context.settings.greeter.word
    return [Check("greeting", f"the word {word}", "kubectl -n greeter get pods", lambda: _greeted(context, word), 180)]


def _greeted(context: Context, word: str) -> Found:
    found = context.prometheus.query("word:greetings:sum")
    words = list(found["word"]) if "word" in found else []
    return word in words, ", ".join(words) or "no greeting"
