"""Loss and queues of links in scenario files, and who takes them."""

import textwrap
from pathlib import Path

import pytest

from netfl.errors import ScenarioError
from netfl.scenario import load, load_topology

FILE = """\
schema: 1
name: lossy
topology:
  schema: 1
  name: pair
  devices:
    "phone-{1..2}": {profile: cortex-m4}
    server: {profile: cortex-m4, tier: cloud}
  links:
    "radio-{1..2}": {between: ["phone-{1..2}", server], rate: 10 Mbit/s, latency: 20 ms, LOSS}
network: NETWORK
workloads: {}
"""


def problems(tmp_path: Path, loss: str, network: str) -> list[str]:
    path = tmp_path / "lossy.yaml"
    path.write_text(FILE.replace("LOSS", loss).replace("NETWORK", network))
    with pytest.raises(ScenarioError) as caught:
        load(path)
    return [str(problem) for problem in caught.value.problems]


def test_tcp_takes_loss_and_queue(tmp_path: Path) -> None:
    # Nothing happens in this scenario: that is all that is wrong with it.
    network = "{kind: tcp, congestion_control: bbr, connection: kept}"
    assert [text.partition("workloads: ")[2] for text in problems(tmp_path, "uplink_loss: 0.01, queue: 64 kB", network)] == [
        "expected at least one workload"
    ]
    text = FILE.replace("LOSS", "uplink_loss: 0.01, queue: 64 kB").partition("network:")[0].partition("topology:\n")[2]
    path = tmp_path / "topology.yaml"
    path.write_text(textwrap.dedent(text))
    link = load_topology(path).topology.links["radio-2"]
    assert (link.loss_up, link.loss_down, link.queue_bytes) == (0.01, 0.0, 64_000)


def test_the_fluid_refuses_a_lossy_link_once_a_block_with_its_place(tmp_path: Path) -> None:
    found = [text for text in problems(tmp_path, "loss: 0.01", "fluid") if "knows no loss" in text]
    assert len(found) == 1
    assert ".links.radio-{1..2}.loss: transport 'fluid' knows no loss of packets (use `network: tcp`, or `datagram`)" in found[0]
    assert "lossy.yaml:10:" in found[0]
    assert not [text for text in problems(tmp_path, "loss: 0", "fluid") if "knows no loss" in text]


@pytest.mark.parametrize("loss", ["loss: 1", "loss: -0.1", "queue: 5"])
def test_figures_that_cannot_be(tmp_path: Path, loss: str) -> None:
    assert [text for text in problems(tmp_path, loss, "tcp") if f"radio-{{1..2}}.{loss.partition(':')[0]}" in text]


def test_loss_for_both_directions_or_for_each(tmp_path: Path) -> None:
    assert [text for text in problems(tmp_path, "loss: 0.1, uplink_loss: 0.2", "tcp") if "either `loss`" in text]


BURSTS = "loss_bursts: {mean_good: 10 s, mean_bad: 1 s, loss_in_bad: 0.2"


def test_the_fluid_refuses_loss_in_bursts_and_names_who_takes_them(tmp_path: Path) -> None:
    (found,) = [text for text in problems(tmp_path, BURSTS + "}", "fluid") if "knows no loss" in text]
    assert "lossy.yaml:10:" in found
    assert ".links.radio-{1..2}.loss_bursts: transport 'fluid' knows no loss of packets (use `network: tcp`, or `datagram`)" in found
    assert [text.partition("workloads: ")[2] for text in problems(tmp_path, BURSTS + "}", "tcp")] == ["expected at least one workload"]


@pytest.mark.parametrize(
    ("loss", "place", "expected"),
    [
        (BURSTS + "}, loss: 0.1", "loss", "expected either `loss` or `loss_bursts`"),
        (BURSTS + "}, uplink_loss: 0.1", "uplink_loss", "`loss_bursts` covers that direction"),
        (BURSTS + ", direction: up}, uplink_loss: 0.1", "uplink_loss", "`loss_bursts` covers that direction"),
        (BURSTS.replace("0.2", "1") + "}", "loss_bursts.loss_in_bad", ""),
        (BURSTS.replace("1 s", "0 s") + "}", "loss_bursts", "expected mean_bad above 0 s"),
        (BURSTS.replace("mean_bad", "mean_bda") + "}", "loss_bursts.mean_bda", "did you mean 'mean_bad'?"),
    ],
)
def test_bursts_that_cannot_be(tmp_path: Path, loss: str, place: str, expected: str) -> None:
    assert [text for text in problems(tmp_path, loss, "tcp") if f"radio-{{1..2}}.{place}:" in text and expected in text]


def test_bursts_of_one_direction_beside_a_loss_of_the_other(tmp_path: Path) -> None:
    loss = BURSTS + ", direction: up}, downlink_loss: 0.1"
    text = FILE.replace("LOSS", loss).partition("network:")[0].partition("topology:\n")[2]
    path = tmp_path / "topology.yaml"
    path.write_text(textwrap.dedent(text))
    link = load_topology(path).topology.links["radio-2"]
    assert (link.bursts_up is not None, link.bursts_down, link.loss_up, link.loss_down) == (True, None, 0.0, 0.1)


def test_losses_of_datagram_elsewhere_name_their_kind(tmp_path: Path) -> None:
    (found,) = [
        text for text in problems(tmp_path, "cost: 1", "{kind: fluid, losses: gilbert_elliott}") if "losses" in text.partition("\n")[0]
    ]
    assert "network.losses: unknown setting 'losses' (a setting of kind datagram; one of: timeout," in found
