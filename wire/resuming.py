"""Who may go on with a link over a new connection: the resume secret, and generations that rise."""

import hmac

from wire.hello import Answered, Hello, Resume, Word, hello_bytes, proof, resume_bytes


class Bearer:
    """The dialling side's part: makes the first frame of each connection.

    The secret is made before the first hello, so that a session whose answer is lost can be
    resumed.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._generation = 0
        self.shown = False  # a relay may know the secret

    def hello(self, ticket: str) -> bytes:
        """With a ticket, which is good once."""
        self.shown = True
        self._generation = 0
        return hello_bytes(Hello(ticket, self._secret))

    def resume(self, session: str, received: int) -> bytes:
        """Without one. Each connection has a generation of its own, above all before it."""
        self._generation += 1
        return resume_bytes(self._secret, session, self._generation, received)


class Keeper:
    """The accepting side's part: knows the secret, and the newest generation that it accepted."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._generation = 0

    def knows(self, resume: Resume) -> bool:
        """Whether this is from the holder of the secret. All else is answered like a stranger."""
        wanted = proof(self._secret, resume.session, resume.generation, resume.received)
        return hmac.compare_digest(wanted, resume.proof)

    def fence(self, resume: Resume) -> Answered | None:
        """None when it may go on, and whatever is older may not from now on."""
        if not self.knows(resume):
            return Answered(Word.UNKNOWN)
        if resume.generation <= self._generation:
            return Answered(Word.REFUSED, reason="generation_old")
        self._generation = resume.generation
        return None
