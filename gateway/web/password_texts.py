"""The words of the pages for a forgotten password: a column for each language."""

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    "skip": ("Skip to content", "Ir al contenido"),
    "ask": ("Forgot your password?", "¿Ha olvidado su contraseña?"),
    "ask_lead": (
        "Type the e-mail address of your account. We send a link to it.",
        "Escriba la dirección de correo de su cuenta. Le enviaremos un enlace.",
    ),
    "email": ("E-mail", "Correo electrónico"),
    "send": ("Send the link", "Enviar el enlace"),
    "sent": ("Look into your mailbox", "Mire su correo"),
    "sent_lead": (
        "If there is an account with this address, a link is on its way. It is good once, for "
        "30 minutes, and only the newest one is. At most three are sent within an hour.",
        "Si existe una cuenta con esta dirección, el enlace está en camino. Vale una sola vez, "
        "durante 30 minutos, y solo el más reciente. Se envían tres como máximo en una hora.",
    ),
    "no_mail": ("This server sends no mail", "Este servidor no envía correo"),
    "no_mail_lead": (
        "Ask whoever operates it: no link can be sent until mail is set up.",
        "Pregunte a quien lo administra: no se puede enviar ningún enlace hasta que se configure "
        "el correo.",
    ),
    "choose": ("Choose a new password", "Elija una contraseña nueva"),
    "choose_lead": (
        "It ends every sign-in of your account. A second factor stays as it is.",
        "Se cerrarán todas las sesiones de su cuenta. El segundo factor no cambia.",
    ),
    "password": ("New password", "Contraseña nueva"),
    "password_rule": ("{least} to {most} characters.", "De {least} a {most} caracteres."),
    "change": ("Change the password", "Cambiar la contraseña"),
    "done": ("Your password is changed", "Su contraseña ha cambiado"),
    "done_lead": (
        "You are signed out everywhere. Sign in with the new password.",
        "Se ha cerrado la sesión en todas partes. Inicie sesión con la contraseña nueva.",
    ),
    "sign_in": ("Sign in", "Iniciar sesión"),
    "over": ("This link is not good, or not any more", "Este enlace no vale, o ya no"),
    "over_lead": (
        "It was used, its 30 minutes are over, or a newer one was sent.",
        "Ya se usó, han pasado sus 30 minutos, o se envió otro más reciente.",
    ),
    "again": ("Ask for a new link", "Pedir otro enlace"),
    "unfit_email": ("This is not an e-mail address.", "Esto no es una dirección de correo."),
    "unfit_password": (
        "A password has {least} to {most} characters.",
        "Una contraseña tiene de {least} a {most} caracteres.",
    ),
    "in_english": ("English", "English"),
    "in_spanish": ("Español", "Español"),
}
