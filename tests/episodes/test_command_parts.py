"""Commands whose channels are recorded from different places."""

from __future__ import annotations

import numpy as np
import pytest

from episodes.command_parts import CommandParts
from episodes.contract import Contract, Source, parse_contract
from episodes.errors import ContractError
from episodes.messages import CommandMessage, MessageError

ARM = "topic: arm/commands,"
GRIPPER = "topic: gripper/commands,"


def contract_with(text: str, arm: str = "", gripper: str = "") -> Contract:
    return parse_contract(text.replace(ARM, f"{ARM} {arm}").replace(GRIPPER, f"{GRIPPER} {gripper}"), "mixed")


def own(values: list[float], stamp_ns: int, observation_ns: int = 3) -> CommandMessage:
    return CommandMessage(np.array(values), stamp_ns, observation_ns, Source.POLICY)


def test_armchairs_own_commands_are_recorded_as_they_are(contract: Contract) -> None:
    message = CommandParts(contract).command(own([0.1, 0.2, 1.0], 5))
    assert message is not None
    assert (message.values.tolist(), message.stamp_ns, message.observation_ns) == ([0.1, 0.2, 1.0], 5, 3)
    assert message.source == Source.POLICY


def test_an_arm_led_by_hand_and_a_gripper_that_armchair_commands_make_one_command(contract_text: str) -> None:
    parts = CommandParts(contract_with(contract_text, "record_from: topic, record_topic: leader,"))
    assert parts.part("arm", np.array([0.5, 0.6]), 10) is None, "nothing is known of the gripper yet"
    assert parts.command(own([9.0, 9.0, 1.0], 11)) is None, "the arm leads"
    message = parts.part("arm", np.array([0.7, 0.8]), 12)
    assert message is not None
    assert (message.values.tolist(), message.stamp_ns, message.source) == ([0.7, 0.8, 1.0], 12, Source.TELEOP)
    assert message.observation_ns == 0, "a leader arm has seen no observation"


def test_the_first_channel_that_is_not_measured_leads_and_keeps_its_source(contract_text: str) -> None:
    parts = CommandParts(contract_with(contract_text, "record_from: next_state, measured_by: state,"))
    assert parts.measured_streams == {"state": "arm"}
    assert parts.command(own([9.0, 9.0, 0.5], 4)) is None, "the arm was not measured yet"
    parts.measured("state", np.array([0.1, 0.2, 0.3]))
    message = parts.command(own([9.0, 9.0, 1.0], 5))
    assert message is not None
    assert message.values.tolist() == [0.1, 0.2, 1.0]
    assert (message.source, message.observation_ns) == (Source.POLICY, 3)


def test_where_everything_is_measured_nothing_is_commanded(contract_text: str) -> None:
    text = contract_text.replace("names: [grip]", "names: [j2]")
    measured = "record_from: next_state, measured_by: state,"
    parts = CommandParts(contract_with(text, measured, measured))
    assert parts.measured_streams == {}
    assert parts.command(own([0.0, 0.0, 0.0], 5)) is None


def test_a_new_episode_knows_no_value_of_the_last_one(contract_text: str) -> None:
    parts = CommandParts(contract_with(contract_text, "record_from: topic, record_topic: leader,"))
    parts.command(own([9.0, 9.0, 1.0], 100))
    parts.restart()
    assert parts.part("arm", np.array([0.5, 0.6]), 10) is None


def test_a_command_that_is_not_finite_or_out_of_order_is_refused(contract: Contract) -> None:
    parts = CommandParts(contract)
    with pytest.raises(MessageError, match="not finite"):
        parts.command(own([np.nan, 0.0, 0.0], 5))
    assert parts.command(own([0.0, 0.0, 0.0], 5)) is not None
    with pytest.raises(MessageError, match="before the one that came before it"):
        parts.command(own([0.0, 0.0, 0.0], 4))
    with pytest.raises(MessageError, match="names the observation"):
        parts.command(own([0.0, 0.0, 0.0], 6, -1))


def test_a_channel_that_nothing_measures_cannot_be_recorded_from_the_next_state(contract_text: str) -> None:
    contract = contract_with(contract_text, "record_from: next_state,")
    with pytest.raises(ContractError, match=r"actions\.arm\.measured_by' is missing"):
        CommandParts(contract)
