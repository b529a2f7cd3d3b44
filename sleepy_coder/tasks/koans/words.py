"""Where a koan's names and numbers come from: seeded, and never the same name twice in a program."""

from __future__ import annotations

import random
from typing import TypeVar

T = TypeVar("T")

NOUNS = tuple(
    """
    amount anchor badge balance barrel basket batch beacon bench bottle branch bridge bucket budget
    buffer bundle button cabin cable camera canal candle canvas cargo carton castle cellar chapter
    circle city cloud coach coin column comet copper corner cotton county course cursor customer delay
    depth device digit dinner distance district dollar draft drawer engine fabric factor farmer feather
    fence ferry fiber figure flight flower folder forest fossil fruit galaxy garden gear glass grain
    guest hammer harbor harvest height hotel island jacket journal journey kettle kitchen label ladder
    lamp lantern ledger legend length level library limit lotion lumber machine magnet manual maple
    margin marker market meadow member metal meter mirror model module moment motor mountain museum
    needle nickel notebook novel number object ocean office orange orchard order organ outlet oven owner
    packet page paint panel paper parcel parent partner pasture patch path pattern pebble pencil pepper
    piano picture pillow pilot planet plate player pocket point pole portion potato pound price printer
    prize profile project quarry quota rabbit radio railway rain ranch range rate record region report
    reserve result ribbon river robot rocket roof room rope route ruler salad sample scale school score
    season seat sector seed sensor series shadow sheet shelf shield ship signal silver sketch socket
    soil speed spice spoon spring square stage stamp station status steam step stock stone storm stream
    street supply surface switch symbol table tailor tank target temple tent thread ticket timber token
    tool tower town track tractor train travel tree tunnel turbine valley vector vessel village vision
    voltage wagon wallet water weight wheel window winter wire worker yard zone
    """.split()  # noqa: SIM905
)

TYPES = tuple(
    """
    Account Animal Archive Author Badge Bank Basket Book Bottle Branch Camera Card Cart Clock Client
    Coin Company Computer Counter Course Crate Customer Deck Device Door Driver Employee Engine Event
    Farm File Flight Folder Game Garden Gauge Hero Hotel House Invoice Island Journal Kitchen Lamp
    Ledger Library Light Lock Machine Market Meter Member Message Mixer Monitor Motor Movie Museum Note
    Order Packet Page Parcel Patient Person Phone Planet Player Pocket Point Printer Product Profile
    Queue Radio Recipe Record Report River Robot Rocket Room Route Sample School Score Screen Sensor
    Server Shelf Ship Shop Signal Song Stage Station Stock Store Student Switch Table Tank Task Team
    Ticket Token Tower Track Train Tree Truck Vault Vehicle Village Wagon Wallet Warehouse Watch Window
    Worker
    """.split()  # noqa: SIM905
)

VERBS = tuple(
    """
    add adjust apply arrange assign attach balance boost bring build cache carry change check clean
    combine compare compute convert copy create cut deliver describe detect divide draw drive enlarge
    estimate examine expand explain fetch fill finish follow gather generate grow handle hold improve
    increase inspect invent keep launch lift limit load lower make mark measure merge mix notify obtain
    open order pack paint pass pick place plan polish prepare present process produce protect pull raise
    reach receive reduce release render repair repeat review rotate save scan select send serve shift
    show start stir stop store stretch test trace turn update verify visit warm wash watch weigh wrap
    """.split()  # noqa: SIM905
)

STRINGS = tuple(
    """
    alpha amber apple aspen bamboo basil birch blue bronze cedar cherry clover cobalt coral crimson
    daisy delta ebony elm ember fern fig ginger gold grape green hazel heather indigo iris ivory ivy
    jade jasmine juniper lemon lilac lime linen lotus mango maroon mint moss navy nutmeg oak olive onyx
    opal peach pearl pine plum poppy quartz raven red rose ruby rust sage sand scarlet slate snow steel
    teal thyme topaz tulip umber velvet violet walnut wheat willow zinc
    """.split()  # noqa: SIM905
)


class Words:
    """A seeded source of distinct names and small values for one program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._used: set[str] = set()

    def _fresh(self, pool: tuple[str, ...]) -> str:
        while True:
            word = self.random.choice(pool)
            if word not in self._used:
                self._used.add(word)
                return word

    def noun(self) -> str:
        """A fresh snake_case name for a variable, a field or a parameter."""
        return self._fresh(NOUNS)

    def plural(self) -> str:
        """A fresh plural name for a collection."""
        word = self._fresh(NOUNS)
        return word[:-1] + "ies" if word.endswith("y") and word[-2] not in "aeiou" else word + "s"

    def verb(self) -> str:
        """A fresh name for a function or method: a verb, sometimes with a noun."""
        verb = self._fresh(VERBS)
        return f"{verb}_{self.noun()}" if self.random.random() < 0.35 else verb

    def type(self) -> str:
        """A fresh CamelCase type name."""
        return self._fresh(TYPES)

    def text(self) -> str:
        """A fresh word for a string literal (without the quotes)."""
        return self._fresh(STRINGS)

    def number(self, low: int = 1, high: int = 60) -> int:
        """A number in [low, high]."""
        return self.random.randint(low, high)

    def pick(self, *options: T) -> T:
        """One of the options."""
        return self.random.choice(options)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability
