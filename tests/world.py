"""A small world with something to learn: questions call people by names that no memory holds."""

from __future__ import annotations

from dataclasses import dataclass

PEOPLE = {
    "Anselm": "the Otter",
    "Brigid": "Captain",
    "Casimir": "old Thunder",
    "Dorothea": "the Sparrow",
    "Evander": "Number Nine",
    "Fenna": "the Bishop",
    "Gustav": "Cinnamon",
    "Hesper": "the Walrus",
    "Ignace": "Little Admiral",
    "Jorinde": "the Clockmaker",
    "Kasper": "Blue Boots",
    "Linnea": "the Lamplighter",
}
DEEDS = {
    "repaired the greenhouse roof": "mend the panes above the seedlings",
    "painted the harbour bench": "give the seat by the quay its colour",
    "baked forty rye loaves": "make bread for the whole street",
    "sold the red bicycle": "part with the two-wheeler",
    "planted a quince hedge": "put fruit bushes along the fence",
    "tuned the church organ": "bring the pipes back in pitch",
    "won the chess evening": "beat everyone at the board game",
    "lost a silver thimble": "mislay the sewing tool",
    "translated a Danish letter": "put foreign post into our language",
    "fed the neighbour's hens": "look after the poultry next door",
    "cleaned the village well": "get the mud out of the water shaft",
    "framed the old sea chart": "put the map behind glass",
}
WAYS = (
    "When did {who} {what}?",
    "Tell me about the day {who} went to {what}.",
    "Did {who} really {what}?",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the memory that answers it, by its number."""

    question: str
    answer: int


def memories() -> list[str]:
    """One sentence for each person and deed."""
    return [f"{person} {deed}." for person in PEOPLE for deed in DEEDS]


def questions() -> list[Asked]:
    """One question for each memory, by the person's other name."""
    pairs = [(other, what) for other in PEOPLE.values() for what in DEEDS.values()]
    return [
        Asked(WAYS[number % len(WAYS)].format(who=other, what=what), number)
        for number, (other, what) in enumerate(pairs)
    ]
