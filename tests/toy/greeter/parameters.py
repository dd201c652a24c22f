"""Its section of the parameters."""

from platformlib.schema import Model


class Parameters(Model):
    """What it says."""

    word: str = "hello"
