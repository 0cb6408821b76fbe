"""What the relay's pages say, in English and Spanish: what is wrong, and what to do."""

from typing import NamedTuple

from wire.endings import Ended

Text = tuple[str, str]  # English, Spanish


class Trouble(NamedTuple):
    """A page: its status, the hop it is about, what is wrong and what to do."""

    status: int
    hop: str
    title: Text
    advice: Text


_AGAIN: Text = ("Try again in a moment.", "Inténtelo de nuevo en un momento.")
_NEW_SESSION: Text = (
    "Open a new session at the gateway.",
    "Abra una sesión nueva en el servidor.",
)
_TARGET_LIST: Text = (
    "Ask whoever runs the device to add the target to its list.",
    "Pida a quien administra el equipo que añada el destino a su lista.",
)
_DEVICE_AWAY: Text = (
    "Check the device's power and connection. This page can be loaded again once it is back.",
    "Compruebe la alimentación y la conexión del equipo. Recargue la página cuando haya vuelto.",
)

TROUBLES = {
    "no_link": Trouble(
        504,
        "agent",
        ("The device has not come yet.", "El equipo no ha respondido todavía."),
        _AGAIN,
    ),
    "device_offline": Trouble(
        504, "mqtt", ("The device is offline.", "El equipo está desconectado."), _DEVICE_AWAY
    ),
    "open_unanswered": Trouble(
        504,
        "agent",
        ("The device was asked and has not answered.", "El equipo no ha contestado a la petición."),
        _DEVICE_AWAY,
    ),
    "open_refused": Trouble(
        504,
        "agent",
        ("The device did not take the session.", "El equipo no ha aceptado la sesión."),
        (
            "It is asked again by itself; its agent's log says why.",
            "Se le pide de nuevo; el registro de su agente dice el motivo.",
        ),
    ),
    "agent_too_old": Trouble(
        504,
        "agent",
        (
            "The device's agent is too old for sessions.",
            "El agente del equipo es demasiado antiguo para las sesiones.",
        ),
        ("Update the agent on the device.", "Actualice el agente del equipo."),
    ),
    "agent_not_joined": Trouble(
        504,
        "agent",
        (
            "The device's agent has no certificate of the server's.",
            "El agente del equipo no tiene el certificado del servidor.",
        ),
        ("Join the device again.", "Vuelva a inscribir el equipo."),
    ),
    "link_refused": Trouble(
        504,
        "agent",
        (
            "The relay did not admit the device.",
            "El servidor de enlace no ha admitido el equipo.",
        ),
        _NEW_SESSION,
    ),
    "relay_away": Trouble(
        504,
        "relay",
        (
            "The gateway does not hear this relay.",
            "El servidor no oye a este servidor de enlace.",
        ),
        (
            "See that the relay runs and reaches the MQTT server.",
            "Compruebe que el servidor de enlace funciona y alcanza el servidor MQTT.",
        ),
    ),
    "dial_failed": Trouble(
        504,
        "relay",
        ("The device cannot reach this relay.", "El equipo no alcanza este servidor de enlace."),
        (
            "A firewall between them may be in the way; it has to let the device out to this port.",
            "Puede impedirlo un cortafuegos; debe dejar salir al equipo hacia este puerto.",
        ),
    ),
    "link_lost": Trouble(
        502,
        "agent",
        ("The device's link was lost.", "Se perdió el enlace con el equipo."),
        _AGAIN,
    ),
    "not_allowed": Trouble(
        403,
        "target",
        ("The device does not allow this target.", "El equipo no permite este destino."),
        _TARGET_LIST,
    ),
    "refused": Trouble(
        502,
        "target",
        ("The target refused the connection.", "El destino rechazó la conexión."),
        (
            "Nothing listens at this port: check the port, and that the machine's service runs.",
            "Nadie escucha en este puerto: compruebe el puerto y que el servicio esté en marcha.",
        ),
    ),
    "timed_out": Trouble(
        504,
        "target",
        ("The target does not answer.", "El destino no responde."),
        (
            "Check the address, and that the machine is on.",
            "Compruebe la dirección y que la máquina esté encendida.",
        ),
    ),
    "unreachable": Trouble(
        502,
        "target",
        ("The device cannot reach the target.", "El equipo no alcanza el destino."),
        (
            "Check the address or the name, and the device's own network.",
            "Compruebe la dirección o el nombre, y la red local del equipo.",
        ),
    ),
    "busy": Trouble(
        503,
        "relay",
        ("Too many connections at once.", "Demasiadas conexiones a la vez."),
        _AGAIN,
    ),
    "closed_early": Trouble(
        502,
        "target",
        (
            "The target closed the connection without an answer.",
            "El destino cerró la conexión sin responder.",
        ),
        (
            "It may expect HTTPS instead of HTTP, or the other way round.",
            "Quizá espera HTTPS en lugar de HTTP, o al revés.",
        ),
    ),
    "bad_answer": Trouble(
        502,
        "target",
        ("The target's answer is not HTTP.", "La respuesta del destino no es HTTP."),
        (
            "The port may belong to another protocol: open the session with protocol tcp.",
            "El puerto puede ser de otro protocolo: abra la sesión con el protocolo tcp.",
        ),
    ),
    "no_tls": Trouble(
        502,
        "target",
        ("The target does not speak HTTPS.", "El destino no habla HTTPS."),
        (
            "Open the session with protocol http.",
            "Abra la sesión con el protocolo http.",
        ),
    ),
    "wants_https": Trouble(
        502,
        "target",
        ("The target wants HTTPS.", "El destino exige HTTPS."),
        (
            "Open the session with protocol https.",
            "Abra la sesión con el protocolo https.",
        ),
    ),
    "control_link_lost": Trouble(
        503,
        "mqtt",  # the way between the two
        (
            "The relay has lost the gateway, so it opens nothing new.",
            "El servidor de enlace ha perdido la conexión con el servidor y no abre nada nuevo.",
        ),
        _AGAIN,
    ),
    "session_over": Trouble(
        410, "person", ("This session is over.", "Esta sesión ha terminado."), _NEW_SESSION
    ),
    "not_a_page": Trouble(
        404,
        "target",
        ("This session is not for a web page.", "Esta sesión no es para una página web."),
        ("Reach it with fleetgate connect.", "Acceda con fleetgate connect."),
    ),
    "reserved": Trouble(
        404,
        "relay",
        ("There is no such page.", "No existe esta página."),
        (
            "Paths that begin with /.fleetgate/ belong to Fleetgate.",
            "Las rutas que empiezan por /.fleetgate/ son de Fleetgate.",
        ),
    ),
    "wrong_host": Trouble(
        421,
        "relay",
        ("There is no session under this name.", "No hay ninguna sesión con este nombre."),
        _NEW_SESSION,
    ),
    "other_page": Trouble(
        403,
        "person",
        (
            "Another page asked for this; the relay does not allow that.",
            "Otra página ha pedido esto; no está permitido.",
        ),
        (
            "Open the address itself, in a tab of its own.",
            "Abra la dirección directamente, en su propia pestaña.",
        ),
    ),
    "service_worker": Trouble(
        403,
        "relay",
        (
            "Pages of devices have no service workers here.",
            "Aquí las páginas de los equipos no tienen service workers.",
        ),
        (
            "The page works without one; what it would have stored is loaded each time.",
            "La página funciona sin él; lo que habría guardado se carga cada vez.",
        ),
    ),
    "no_cookie": Trouble(
        403,
        "person",
        (
            "This browser did not bring back the cookie that was set for this visit.",
            "El navegador no ha devuelto la cookie de esta visita.",
        ),
        (
            "Allow cookies for this page, then open it again from the gateway.",
            "Permita las cookies de esta página y ábrala de nuevo desde el servidor.",
        ),
    ),
    "head_too_long": Trouble(
        431,
        "person",
        (
            "The request's headers are too long.",
            "Las cabeceras de la petición son demasiado largas.",
        ),
        (
            "Delete this page's cookies, then load it again.",
            "Borre las cookies de esta página y recárguela.",
        ),
    ),
    "ticket_wrong": Trouble(
        403,
        "person",
        ("This ticket is not for this visit.", "Este billete no es para esta visita."),
        _NEW_SESSION,
    ),
}
TROUBLES["mqtt_away"] = TROUBLES["control_link_lost"]
for _code in ("device_signed_out", "device_late"):
    TROUBLES[_code] = Trouble(
        504,
        "mqtt",
        (
            "The device is not connected just now.",
            "El equipo no está conectado en este momento.",
        ),
        _DEVICE_AWAY,
    )
for _code in ("open_waiting", "open_sent", "dialling", "ticket_renewed"):
    TROUBLES[_code] = TROUBLES["no_link"]
for _code in ("ticket_used", "ticket_expired", "relay_restarted"):
    TROUBLES[_code] = Trouble(
        403,
        "person",
        ("This way in has been used up.", "Este acceso ya no sirve."),
        ("Load the page again from its start.", "Cargue la página de nuevo desde el principio."),
    )
# What is not listed is the gateway's word on why the device has not come.
OTHER = Trouble(
    504, "agent", ("The device cannot be reached now.", "Ahora no se alcanza el equipo."), _AGAIN
)

ENDED: dict[str, Text] = {
    Ended.CLOSED: ("It was closed.", "Se ha cerrado."),
    Ended.EXPIRED: ("Its time is up.", "Se ha acabado su tiempo."),
    Ended.IDLE_STREAMS: ("Nobody used it for a while.", "Nadie la ha usado durante un rato."),
    Ended.IDLE_BYTES: ("Nobody used it for a while.", "Nadie la ha usado durante un rato."),
    Ended.UNREGISTERED: ("The device was unregistered.", "El equipo se ha dado de baja."),
    Ended.SERVICE_UNPAID: (
        "The device's service is not paid for.",
        "El servicio del equipo no está pagado.",
    ),
    Ended.COMPANY_SUSPENDED: ("The company is suspended.", "La empresa está suspendida."),
    Ended.RIGHT_LOST: ("The right to it was taken back.", "Se ha retirado el permiso."),
    Ended.MOVED: (
        "The device was moved to another company.",
        "El equipo se ha trasladado a otra empresa.",
    ),
    Ended.RELEASED: ("The device was released.", "El equipo se ha liberado."),
    Ended.RESTORED: (
        "The server was restored from a backup.",
        "El servidor se ha restaurado desde una copia.",
    ),
    Ended.CONTROL_LINK_LOST: (
        "The relay was without its gateway for too long.",
        "El servidor de enlace estuvo demasiado tiempo sin el servidor.",
    ),
    Ended.OVER: ("The relay ended it.", "La ha terminado el servidor de enlace."),
}
HOPS: dict[str, Text] = {
    "person": ("you", "usted"),
    "gateway": ("the gateway", "el servidor"),
    "mqtt": ("the MQTT server", "el servidor MQTT"),
    "agent": ("the device", "el equipo"),
    "relay": ("the relay", "el servidor de enlace"),
    "target": ("the target", "el destino"),
}
LABELS: dict[str, Text] = {
    "where": ("Where it stopped", "Dónde se detuvo"),
    "since": ("since", "desde"),
    "back": ("To the gateway", "Al servidor"),
    "retry": ("Load again", "Recargar"),
    "left": ("You have left this session's page.", "Ha salido de la página de esta sesión."),
    "enter": (
        "Enter this session with a ticket first.",
        "Entre primero en esta sesión con un billete.",
    ),
}
