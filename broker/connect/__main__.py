"""`fleetgate connect`: the composition root."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence

from broker.connect.arguments import Options, UsageError, check_url, parse
from broker.connect.program import EXIT_DONE, EXIT_USAGE, Program

_STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # ssh sends the last to its ProxyCommand


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"fleetgate connect: {line}", file=sys.stderr, flush=True)


def _show(text: str) -> None:
    print(text, flush=True)


async def _run(options: Options) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in _STOPS:
        number = getattr(signal, name, None)
        # What was switched off before us, as by nohup, stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            try:
                loop.add_signal_handler(number, stop.set)
            except NotImplementedError:
                break  # not on this system: Ctrl-C interrupts
    return await Program(options, say=_say, show=_show, rng=random.Random()).run(stop)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv, os.environ)
        if options.url:
            check_url(options.url)
        if options.stdio and os.name != "posix":
            raise UsageError("--stdio needs Linux, macOS or another POSIX system")
    except UsageError as error:
        _say(str(error))
        return EXIT_USAGE
    try:
        return asyncio.run(_run(options))
    except KeyboardInterrupt:
        return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
