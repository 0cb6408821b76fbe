"""The secret name under which the gateways of an MQTT node share what devices publish."""

import hashlib
import hmac


def share_group(master_key: bytes, node: str) -> str:
    """The same for all gateways of the installation, and for nobody else.

    Mosquitto grants every subscription and asks the access list only at delivery. A device that
    knew the name could join the group, and each message that came round to it would be dropped.
    """
    text = b"share group\x00" + node.encode()
    return hmac.new(master_key, text, hashlib.sha256).hexdigest()[:32]
