"""Answers as VQA counts them: one spelling for answers that mean the same, and the targets of answers.

The rules and word lists are those of the official evaluation (Antol et al., "VQA: Visual Question Answering",
arXiv 1505.00468; https://visualqa.org/evaluation.html), also its quirks, since results are compared by them.
"""

import re
from functools import lru_cache
from typing import Any, Literal

import numpy as np

ARTICLES = {"a", "an", "the"}
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBER_WORDS)} | {"none": "0"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
CONTRACTIONS = dict(
    re.findall(
        r"(\S+)=(\S+)",
        """
        'ow'sat='ow's'at 'ows'at='ow's'at aint=ain't arent=aren't cant=can't couldn'tve=couldn't've
        couldnt've=couldn't've couldnt=couldn't couldve=could've didnt=didn't doesnt=doesn't dont=don't
        hadn'tve=hadn't've hadnt've=hadn't've hadnt=hadn't hasnt=hasn't havent=haven't he'dve=he'd've
        hed've=he'd've hed=he'd hes=he's howd=how'd howll=how'll hows=how's isnt=isn't it'dve=it'd've
        itd've=it'd've itd=it'd itll=it'll maam=ma'am mightn'tve=mightn't've mightnt've=mightn't've
        mightnt=mightn't mightve=might've mustnt=mustn't mustve=must've neednt=needn't notve=not've
        oclock=o'clock oughtnt=oughtn't ow's'at='ow's'at shant=shan't she'dve=she'd've shed've=she'd've
        shouldn'tve=shouldn't've shouldnt've=shouldn't've shouldnt=shouldn't shouldve=should've
        somebody'd=somebodyd somebody'dve=somebody'd've somebodyd've=somebody'd've somebodyll=somebody'll
        somebodys=somebody's someone'dve=someone'd've someoned've=someone'd've someoned=someone'd
        someonell=someone'll someones=someone's something'dve=something'd've somethingd've=something'd've
        somethingd=something'd somethingll=something'll thats=that's there'dve=there'd've
        thered've=there'd've thered=there'd therere=there're theres=there's they'dve=they'd've
        theyd've=they'd've theyd=they'd theyll=they'll theyre=they're theyve=they've twas='twas wasnt=wasn't
        we'dve=we'd've wed've=we'd've werent=weren't weve=we've whatll=what'll whatre=what're whats=what's
        whatve=what've whens=when's whered=where'd wheres=where's whereve=where've who'dve=who'd've
        whod've=who'd've whod=who'd wholl=who'll whos=who's whove=who've whyll=why'll whyre=why're
        whys=why's wont=won't wouldn'tve=wouldn't've wouldnt've=wouldn't've wouldnt=wouldn't
        wouldve=would've y'all'dve=y'all'd've y'alld've=y'all'd've y'allll=y'all'll yall'd've=y'all'd've
        yall'll=y'all'll yall=y'all you'dve=you'd've youd've=you'd've youd=you'd youll=you'll youre=you're
        youve=you've
        """,
    )
)

COMMA_IN_NUMBER = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
MOST_PERIODS = 32
"""The official evaluation removes no more periods than these, by a mistake that became the standard."""

AccuracyVariant = Literal["official", "mcan", "agreement"]
"""Which accuracy is reported: the official one, mcan-vqa's evaluator's, or agreement with any number of people."""

SOFT_TARGETS = (0.0, 0.3, 0.6, 0.9, 1.0)
"""The targets of an answer that 0, 1, 2, 3, and 4 or more of ten people gave."""
ENOUGH = 0.3
"""The share of people whose answer is wholly right: three of ten, as VQA has it."""


def agreement(count: Any, people: Any) -> Any:
    """Returns how right an answer is: the share of people who gave it, divided by :data:`ENOUGH`, at most 1.

    Of ten people it differs from the official accuracy in that nobody is left out in turn; of one, two or three people
    any answer that was given is right.

    Args:
        count: The number of people who gave it, or an array of such numbers.
        people: The number of all people who answered, likewise.

    Example:
        >>> [round(float(agreement(*each)), 2) for each in ((1, 1), (1, 5), (2, 10), (3, 10))]
        [1.0, 0.67, 0.67, 1.0]
    """
    return np.minimum(count / (ENOUGH * people), 1)


@lru_cache(maxsize=2**20)
def normalise(answer: str) -> str:
    """Returns an answer in the spelling in which answers are compared.

    It has no punctuation, no articles and no capitals, number words are digits, and contractions have their apostrophe.
    A punctuation mark is removed if it is beside a space anywhere in the answer, or if the answer has a number like
    ``1,000``; otherwise it becomes a space.

    Example:
        >>> normalise("The dark-blue T-shirt!"), normalise("two"), normalise("1,000"), normalise("isnt it")
        ('dark blue t shirt', '2', '1000', "isn't it")
    """
    words = (DIGITS.get(word, word) for word in without_punctuation(answer).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(answer: str) -> str:
    """Returns an answer without punctuation: the first half of :func:`normalise`."""
    has_number_with_comma = COMMA_IN_NUMBER.search(answer)
    replacements = {}
    for mark in PUNCTUATION:
        goes = has_number_with_comma or f"{mark} " in answer or f" {mark}" in answer
        replacements[ord(mark)] = "" if goes else " "
    return PERIOD.sub("", answer.translate(replacements), count=MOST_PERIODS)
