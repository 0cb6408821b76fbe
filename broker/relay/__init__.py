"""The relay: joins the links of devices with visitors, and connects to nothing but MQTT."""
