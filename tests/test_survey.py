"""tests/survey.py: the classes that are driven are never called refused, those that cannot be always are."""

from tests.survey import DRIVEN, REFUSED, survey
from tests.tiny import TINY
from tests.tiny_refused import CONVERTED


def test_the_survey_agrees_with_what_is_tested():
    states = {entry.name: entry.state for entry in survey()}
    assert {name for name, state in states.items() if state == DRIVEN} == {
        type(build().pipe).__name__ for build in TINY.values()
    }
    refused = {name for name, state in states.items() if state == REFUSED}
    assert set(CONVERTED) <= refused
    assert {"IFPipeline", "KandinskyV22CombinedPipeline", "AudioLDMPipeline", "UnCLIPPipeline"} <= refused
