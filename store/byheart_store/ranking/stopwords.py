"""The words that the text leg passes over."""

_SNOWBALL = """
a about above after again against ain all am an and any are aren as at be because been
before being below between both but by can cannot could couldn d did didn do does doesn
doing don down during each few for from further had hadn has hasn have haven having he her
here hers herself him himself his how i if in into is isn it its itself just let ll m me
mightn more most mustn my myself needn no nor not now of off on once only or other ought
our ours ourselves out over own re s same shan she should shouldn so some such t than that
the their theirs them themselves then there these they this those through to too under
until up ve very was wasn we were weren what when where which while who whom why will with
won would wouldn you your yours yourself yourselves
"""

# LanceDB looks for stop words after stemming, so the stems that differ have to be listed as well.
_STEMS = """
abov ani becaus befor doe dure onc onli ourselv themselv veri whi yourselv
"""

ENGLISH = [*_SNOWBALL.split(), *_STEMS.split()]
"""Snowball's English list (BSD licence), contractions parted at the apostrophe, and its stems."""
