"""The words of an invitation's page, which strangers open: a column for each language."""

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    "skip": ("Skip to content", "Ir al contenido"),
    "title": ("Invitation to {company}", "Invitación a {company}"),
    "invited": (
        "{inviter} invites you as {role}.",
        "{inviter} le invita como {role}.",
    ),
    "until": ("The role ends on {day} (UTC).", "El rol termina el {day} (UTC)."),
    "email": ("E-mail", "Correo electrónico"),
    "name": ("Your name", "Su nombre"),
    "password": ("Password", "Contraseña"),
    "password_new": ("Choose a password", "Elija una contraseña"),
    "password_rule": (
        "{least} to {most} characters.",
        "De {least} a {most} caracteres.",
    ),
    "new_lead": (
        "Choose a password, and you are in.",
        "Elija una contraseña y ya puede empezar.",
    ),
    "known_lead": (
        "There is an account with this address. Type its password to accept.",
        "Ya existe una cuenta con esta dirección. Escriba su contraseña para aceptar.",
    ),
    "signed_in_lead": (
        "You are signed in as {email}. Nothing changes until you accept.",
        "Ha iniciado sesión como {email}. Nada cambia hasta que acepte.",
    ),
    "accept": ("Accept", "Aceptar"),
    "accept_new": ("Make the account and accept", "Crear la cuenta y aceptar"),
    "wrong_password": ("The password is wrong.", "La contraseña no es correcta."),
    "unfit_password": (
        "A password has {least} to {most} characters.",
        "Una contraseña tiene de {least} a {most} caracteres.",
    ),
    "unfit_name": (
        "The name is too long, or holds a character that cannot be shown.",
        "El nombre es demasiado largo o contiene un carácter que no se puede mostrar.",
    ),
    "type_password": ("Type the password.", "Escriba la contraseña."),
    "sign_in_lead": (
        "This account has a second factor: sign in first, then accept.",
        "Esta cuenta tiene un segundo factor: inicie sesión primero y después acepte.",
    ),
    "sign_in": ("Sign in", "Iniciar sesión"),
    "over": ("This invitation is not good, or not any more", "Esta invitación no vale, o ya no"),
    "over_next": (
        "It was used, withdrawn or replaced by a newer one, its 72 hours are over, or whoever "
        "invited you may not do so any longer. If you accepted it before, sign in; else ask for a "
        "new one.",
        "Ya se usó, se retiró o hay otra más reciente, han pasado sus 72 horas, o quien le invitó "
        "ya no puede hacerlo. Si ya la aceptó, inicie sesión; si no, pida otra.",
    ),
    "other": ("You are signed in as somebody else", "Ha iniciado sesión con otra cuenta"),
    "other_next": (
        "This invitation is for another address than {email}. Sign out, then open the link again.",
        "Esta invitación es para otra dirección, no para {email}. Cierre la sesión y abra el "
        "enlace de nuevo.",
    ),
    "sign_out": ("Sign out", "Cerrar sesión"),
    "member": ("You are a member of {company} already", "Ya es miembro de {company}"),
    "member_next": (
        "There is nothing to accept: its administrators change roles.",
        "No hay nada que aceptar: sus administradores cambian los roles.",
    ),
    "go_on": ("Go on to your devices", "Ir a sus dispositivos"),
    "in_english": ("English", "English"),
    "in_spanish": ("Español", "Español"),
}
