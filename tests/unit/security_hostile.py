"""Texts that do harm where they are taken for more than text. Each shell among them would leave a file `owned`."""

from platformlib.text import visible

HOSTILE = {
    "shell": "x; touch owned; $(touch owned) `touch owned` && touch owned | touch owned #",
    "shell in quotes": "'; touch owned; '\"; touch owned; \"",
    "sed": "x/;1e touch owned",
    "an option": "--config=/etc/shadow",
    "lines": "x\ny 10.0.0.1 80 TCP\r\n- z",
    "PromQL": 'x"} or vector(1) # ',
    "LogQL": 'x"} | line_format "`{{.}}`" |= `',
    "SQL": "x'; DROP TABLE pods; --",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;",
    "mathematics": "$\\href{javascript:alert(1)}{x}$ \\(x\\)",
    "rich markup": "[red]x[/red] [link=https://evil.example]y[/link]",
    "template": "{{ 7 * 7 }} {% raw %} ${x} %(x)s",
    "terminal": "\x1b[2J\x1b]0;title\x07\x1b[31mred\x9b31m\x08\x08",
    "direction": "\u202eabc\u2066\u200b",
    "path": "../../../apis/rbac.authorization.k8s.io/v1/clusterroles?dryRun=#",
}


def controls(text: str) -> list[str]:
    """The characters in it that a terminal would obey."""
    return [letter for letter in text if letter not in "\n\t" and visible(letter) != letter]
