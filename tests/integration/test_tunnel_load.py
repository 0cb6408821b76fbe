"""The load of the measurements: what it counts is what went through a real tunnel."""

from pathlib import Path

import pytest

from bench import tunnel_load
from bench.bad_network import bad_network, resident_bytes
from bench.peers.asyncssh_tunnel import asyncssh_tunnel
from bench.peers.openssh import openssh, version
from bench.peers.started import started
from bench.peers.yamux_tunnel import yamux_tunnel
from bench.server_behind import server_behind
from bench.tunnel_figures import Absent, Opener
from bench.tunnel_load import Direction

DIRECTIONS: list[Direction] = ["to device", "from device"]


def test_every_figure_over_a_network_with_latency() -> None:
    with server_behind() as behind, bad_network(behind.port, 5.0) as network:
        where = ("127.0.0.1", network.port)
        assert 10 <= tunnel_load.median_get_ms(*where, 5) <= 100
        assert 10_000 <= tunnel_load.round_trip_us(*where, 20) <= 100_000
        assert tunnel_load.new_streams_per_s(*where, parallel=4, for_s=0.3) > 0
        for direction in DIRECTIONS:
            measured = tunnel_load.throughput(
                *where, direction, pids=[network.pid], warm_up_s=0.2, window_s=0.4
            )
            # One 256 KiB buffer a round trip would be 200 Mbit/s.
            assert measured.mbit_s > 300 and measured.cpu_s_per_gb > 0
        stalled = tunnel_load.stalled_readers(*where, pids=[network.pid], fast_s=0.1, readers=2)
        assert stalled.before_ms > 5 and stalled.longest_ms >= stalled.during_ms


def test_openssh_is_a_tunnel(tmp_path: Path) -> None:
    try:
        openssh_version = version()
    except Absent as error:
        pytest.skip(str(error))
    assert openssh_version.startswith("OpenSSH ")
    with server_behind() as behind, openssh(tmp_path, behind.port, 0.0) as tunnel:
        where = (tunnel.host, tunnel.port)
        assert tunnel_load.get_ms(*where) > 0
        # sshd works in a child of the one that listens.
        assert len(tunnel.relay_pids) >= 2 and len(tunnel.device_pids) == 1
        assert all(map(resident_bytes, tunnel.pids))
        measured = tunnel_load.throughput(
            *where, "to device", pids=tunnel.pids, warm_up_s=0.2, window_s=0.4
        )
        assert measured.cpu_s_per_gb > 0


def test_an_absent_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.openssh.shutil.which", lambda name, path: None)
    with pytest.raises(Absent, match="sshd is not installed"), openssh(tmp_path, 1, 0.0):
        pass


@pytest.mark.parametrize("opener", [asyncssh_tunnel, yamux_tunnel])
@pytest.mark.parametrize("latency_ms", [0.0, 5.0])
def test_the_other_peers_are_tunnels_too(tmp_path: Path, opener: Opener, latency_ms: float) -> None:
    try:
        with server_behind() as behind, opener(tmp_path, behind.port, latency_ms) as tunnel:
            where = (tunnel.host, tunnel.port)
            assert tunnel_load.get_ms(*where) >= 2 * latency_ms
            assert len(tunnel.relay_pids) == len(tunnel.device_pids) == 1
            assert all(map(resident_bytes, tunnel.pids))
            for direction in DIRECTIONS:
                measured = tunnel_load.throughput(
                    *where, direction, pids=tunnel.pids, warm_up_s=0.2, window_s=0.4
                )
                assert measured.mbit_s > 0
    except Absent as error:
        pytest.skip(str(error))


def test_without_go_yamux_is_said_to_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.yamux_tunnel.shutil.which", lambda name: None)
    absent = pytest.raises(Absent, match="apt-get install golang-go golang-github-hashicorp-yamux")
    with absent, yamux_tunnel(tmp_path, 1, 0.0):
        pass


def test_a_peer_that_ends_at_once_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="did not start: no port"), started(["echo", "no port"]):
        pass
