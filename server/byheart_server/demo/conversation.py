"""Eight months in the life of a person who talks to an assistant, and questions about them.

Everything here is invented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LENA = "Lena"
ASSISTANT = "Assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing said. `key` names it for the questions; `replaces` is the key of an older turn."""

    speaker: str
    text: str
    key: str = ""
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One sitting: its name, its moment (UTC), and what was said, in order."""

    name: str
    at: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the keys of the turns that hold its answer, and arguments that narrow it."""

    kind: str
    text: str
    answers: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)


SESSIONS = (
    Session(
        "new-year",
        "2025-01-12T18:20:00Z",
        (
            Turn(LENA, "Happy new year! I'm finally out of the boxes in the new flat."),
            Turn(ASSISTANT, "Happy new year, Lena. Where did you end up?"),
            Turn(
                LENA,
                "Leipzig, in Plagwitz, third floor, right above a bakery. After nine years in "
                "Halle it still feels like a holiday.",
                "home",
            ),
            Turn(ASSISTANT, "That sounds dangerous for anyone who likes fresh rolls."),
            Turn(
                LENA,
                "Only half of them. I'm allergic to walnuts, and they put walnuts into "
                "everything. Last time I ended up in hospital, so please keep it in mind.",
                "allergy",
            ),
            Turn(ASSISTANT, "Noted, and I'll check every recipe for them."),
            Turn(
                LENA,
                "One more thing: keep your answers short. Two or three sentences, no bullet "
                "lists. I read you on a phone, standing on scaffolding.",
                "style",
            ),
            Turn(ASSISTANT, "Short it is."),
            Turn(
                LENA,
                "My resolution is the half marathon at the lake on 18 May. I've never run more "
                "than twelve kilometres.",
                "race-plan",
            ),
        ),
    ),
    Session(
        "norway",
        "2025-02-02T19:05:00Z",
        (
            Turn(
                LENA,
                "My sister Judith and I want to see the Lofoten islands this summer, "
                "9 to 23 August. Can you help me think it through?",
                "trip-plan",
            ),
            Turn(ASSISTANT, "Gladly. Will you fly to Bodø and take the ferry from there?"),
            Turn(
                LENA,
                "No flying. I haven't been on a plane since 2016 and don't miss it. Trains, "
                "even if it takes two days.",
                "no-flying",
            ),
            Turn(
                ASSISTANT,
                "Then Hamburg, Copenhagen, Stockholm and the night train to Narvik. The ferry "
                "is avoidable that way, too.",
            ),
            Turn(
                LENA,
                "Good, because Judith gets seasick on a pedal boat. And she's vegetarian, so "
                "no fish restaurants, which will be a challenge up there.",
                "judith",
            ),
            Turn(ASSISTANT, "What may it cost?"),
            Turn(LENA, "1,800 euros each, all in. Judith is saving for a piano.", "budget"),
            Turn(
                ASSISTANT,
                "Feasible with cabins instead of hotels. I'd book the night train by April.",
            ),
        ),
    ),
    Session(
        "father",
        "2025-03-09T17:40:00Z",
        (
            Turn(LENA, "Long week. Sorry that I've been quiet."),
            Turn(ASSISTANT, "No need to be sorry. What happened?"),
            Turn(
                LENA,
                "My father's hip. Walter is seventy-one and stubborn, but even he says it "
                "can't go on. They will operate on 12 August, in Dessau.",
                "operation",
            ),
            Turn(
                ASSISTANT,
                "That falls into the two weeks of your trip. Does anyone else live near him?",
            ),
            Turn(
                LENA,
                "Nobody. Since Mum died it's Judith and me. His surgeon, Dr. Amin, says he "
                "needs someone at home for the first fortnight.",
                "surgeon",
            ),
            Turn(ASSISTANT, "Then the dates can't both hold. You don't have to decide today."),
            Turn(
                LENA,
                "Something cheerful: Biscuit got through his vaccinations without biting "
                "anyone. Our vet is Dr. Keller in Lindenau, and she bribes him with liver paste.",
                "vet",
            ),
            Turn(ASSISTANT, "A whippet who can be bribed is half trained."),
            Turn(LENA, "He's a greyhound at heart and a cushion by profession."),
        ),
    ),
    Session(
        "new-plans",
        "2025-04-06T16:15:00Z",
        (
            Turn(
                LENA,
                "Decided: no Lofoten this year. Judith and I go to Slovenia instead, a week at "
                "Lake Bohinj from 1 to 8 June, and August belongs to Dad.",
                "trip-change",
                "trip-plan",
            ),
            Turn(ASSISTANT, "A good trade. Leipzig, Munich, Ljubljana by rail is one long day."),
            Turn(
                LENA,
                "We found a room at a guest house run by a woman named Marija, eighty metres "
                "from the water.",
                "guest-house",
            ),
            Turn(ASSISTANT, "And how is the training going?"),
            Turn(
                LENA,
                "Badly. My Achilles tendon complains after eight kilometres. The physio wants "
                "me to drop the half marathon and run the ten kilometres that day.",
                "tendon",
            ),
            Turn(ASSISTANT, "Ten kilometres without pain beat twenty-one with it."),
            Turn(
                LENA,
                "That's what I said, after a day of sulking. I've changed my entry to the ten.",
                "race-change",
                "race-plan",
            ),
            Turn(ASSISTANT, "Is there anything you'd like me to remind you of?"),
            Turn(
                LENA,
                "Judith's birthday, 27 April. She wants sheet music: the Satie Gnossiennes.",
                "birthday",
            ),
        ),
    ),
    Session(
        "bridge",
        "2025-05-21T20:30:00Z",
        (
            Turn(LENA, "54 minutes and 12 seconds! And the tendon kept quiet.", "race-time"),
            Turn(ASSISTANT, "Congratulations! That's under five and a half minutes a kilometre."),
            Turn(LENA, "Judith stood at the finish with a cowbell. I could have died of shame."),
            Turn(ASSISTANT, "And work? You sounded worried last week."),
            Turn(
                LENA,
                "We found a crack in a bearing of the footbridge by the weir. I'm the inspector, "
                "so it's my signature.",
                "crack",
            ),
            Turn(ASSISTANT, "What do the others say?"),
            Turn(
                LENA,
                "Ruben wanted to keep it open and limit the number of people. I like him, but "
                "he has never had to write a letter to a family.",
                "ruben",
            ),
            Turn(
                ASSISTANT,
                "My advice: close it until the load test is done, and put the reasons in writing.",
                "advice",
            ),
            Turn(
                LENA,
                "That's what I did this morning. It's closed until the test on 2 July, and the "
                "mayor is cross.",
                "closed",
            ),
        ),
    ),
    Session(
        "bohinj",
        "2025-06-15T18:50:00Z",
        (
            Turn(
                LENA,
                "Back from Bohinj, brown and slow. We swam every morning at seven, the water "
                "was sixteen degrees.",
                "swimming",
            ),
            Turn(ASSISTANT, "Sixteen is brave. What was the best of it?"),
            Turn(
                LENA,
                "The evening on the jetty when Judith told me that she's expecting a baby, in "
                "December. I'm going to be an aunt!",
                "baby",
            ),
            Turn(ASSISTANT, "What news! Congratulations to both of you."),
            Turn(
                LENA,
                "So the piano savings turn into a pram. And I promised our host a photograph "
                "of the jetty, I must not forget to send it.",
                "photograph",
            ),
            Turn(ASSISTANT, "Shall I put the photograph on your list for this weekend?"),
            Turn(LENA, "Please do."),
            Turn(
                LENA,
                "Oh, and Dr. Keller has retired. Biscuit's vet is now Dr. Nowak, two streets "
                "from us. He growled at her, she growled back, they're friends.",
                "vet-change",
                "vet",
            ),
        ),
    ),
    Session(
        "late-summer",
        "2025-08-30T19:10:00Z",
        (
            Turn(
                LENA,
                "Dad is through it. The operation went well, and he's in rehab until "
                "10 September, complaining about the coffee, so he must be fine.",
                "rehab",
            ),
            Turn(ASSISTANT, "I'm glad. And how are you?"),
            Turn(
                LENA,
                "Tired, happy. I've started cello lessons, on Wednesdays at six, with a Mrs "
                "Sobek who taps the rhythm on my shoulder.",
                "cello",
            ),
            Turn(ASSISTANT, "The neighbours above a bakery get up early. When do you practise?"),
            Turn(
                LENA,
                "Before supper, with a mute. The baker says it sounds like a ship coming in, "
                "which he means kindly.",
            ),
            Turn(ASSISTANT, "Then you've found your first audience."),
            Turn(
                LENA,
                "The bridge passed its load test with a new bearing. It's open again, and the "
                "mayor has forgotten that he was cross.",
                "reopened",
            ),
            Turn(ASSISTANT, "A quiet ending is the best one for a bridge."),
            Turn(
                LENA,
                "The code of the bicycle cellar is 4417, in case I ask. Actually, better "
                "forget that.",
                "code",
            ),
            Turn(ASSISTANT, "I can forget it for good, whenever you say so."),
        ),
    ),
)

QUESTIONS = (
    Question("single fact", "What is Lena allergic to?", ("allergy",)),
    Question("single fact", "What time did she run in the race?", ("race-time",)),
    Question("preference", "How long should answers to Lena be?", ("style",)),
    Question("preference", "Would she take a plane?", ("no-flying",)),
    Question("changed plan", "Where do Lena and Judith travel this summer?", ("trip-change",)),
    Question("changed fact", "Who is Biscuit's vet?", ("vet-change",)),
    Question(
        "multi-hop",
        "To whom does she owe a photograph of the jetty?",
        ("photograph", "guest-house"),
    ),
    Question("temporal", "When is her father's operation?", ("operation",)),
    Question("temporal", "Until when is the footbridge closed?", ("closed",)),
    Question("who said", "Who wanted to keep the bridge open?", ("ruben",)),
    Question(
        "in one session",
        "What was said about closing the bridge?",
        ("ruben", "advice", "closed"),
        {"session": "bridge"},
    ),
    Question(
        "by time",
        "What is new in Judith's life?",
        ("baby",),
        {"after": "2025-06-01", "before": "2025-07-01"},
    ),
)
UNANSWERABLE = Question("nobody knows", "Which mortgage rate did the bank offer?")
SECRET = Question("to be forgotten", "What is the code of the bicycle cellar?", ("code",))
