"""How devices join: the own CA, join codes, enrolment, and the listener for devices."""
