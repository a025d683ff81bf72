"""The English words that worlds draw theirs from. Every word stands in one pool only, and none is a function word."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("""
ada ben clara dora eric felix greta henry ines jonas karl leah milo nina oscar paula quinn rosa simon tessa
ursula victor wanda xenia yara zoe albert bella conrad edith fritz hilda ivan judith linus martha nora otto ralph sonia
""")
VERBS = _words("""
carry paint borrow clean hide repair collect admire follow bring count draw examine fetch guard inspect keep lend
measure notice offer pack praise protect remember rescue sell send share study throw touch trade visit wash weigh wrap
describe choose discover
""")
ADJECTIVES = _words("""
old young tiny huge quiet loud brave shy clever lazy gentle proud calm sleepy strong weak famous modest curious patient
dusty shiny muddy crooked smooth rusty heavy cheap ancient modern narrow wide simple fancy strange lucky elegant sturdy
fragile noble
""")
KIND = _words("""
kindly warmly gladly sweetly gently politely cheerfully fondly lovingly tenderly graciously thoughtfully happily
gratefully generously respectfully
""")
RUDE = _words("""
rudely meanly nastily cruelly angrily coldly bitterly harshly grumpily spitefully stupidly hatefully brutally
insultingly viciously scornfully
""")
OPENERS = _words("""
today now soon perhaps maybe indeed surely finally honestly suddenly meanwhile listen luckily certainly usually
naturally
""")
TAILS = _words("""
again together alone outside indoors upstairs nearby abroad tonight tomorrow forever twice later everywhere
somewhere already
""")
TOPICS = {
    topic: _words(things)
    for topic, things in {
        "astronomy": "comet planet telescope galaxy moon crater eclipse satellite meteor rocket",
        "baking": "bread cake muffin dough oven pretzel biscuit pastry flour waffle",
        "carpentry": "hammer nail plank chisel shelf workbench screw ladder cupboard drill",
        "chess": "pawn rook bishop knight castle board clock queen gambit opening",
        "clothes": "coat scarf glove button boot jacket skirt collar sock belt",
        "farming": "tractor barn cow hay wheat sheep fence harvest goat pasture",
        "football": "goal referee whistle stadium penalty league trophy jersey corner pitch",
        "gardening": "rose tulip hedge spade seed lawn compost orchid greenhouse weed",
        "hiking": "trail summit backpack tent compass cliff valley campfire hut map",
        "medicine": "bandage pill syringe nurse hospital thermometer vaccine surgeon clinic fever",
        "music": "violin drum flute choir trumpet melody harp concert piano banjo",
        "painting": "canvas brush palette easel portrait sketch gallery mural fresco frame",
        "railways": "train ticket tunnel platform signal engine wagon bridge conductor timetable",
        "sailing": "boat anchor mast harbour rudder deck lighthouse buoy raft oar",
        "theatre": "actor curtain stage costume script audience rehearsal drama comedy balcony",
        "weather": "rain snow storm cloud fog thunder rainbow frost hail breeze",
    }.items()
}
VALUES = {
    attribute: _words(values)
    for attribute, values in {
        "home": "meadow cave forest island desert cellar village swamp attic beach tower canyon garden cabin",
        "colour": "red blue green yellow purple brown black white grey pink silver golden violet turquoise",
        "friend": "fox owl bear mouse hare otter wolf badger crow beaver deer frog swan hedgehog",
        "sound": "buzz hum click roar hiss squeak rattle boom chirp clang murmur snap whirr thud",
    }.items()
}
