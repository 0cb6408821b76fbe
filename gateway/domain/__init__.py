"""Pure rules: companies, rights, ledger, periods, service, presence. Values in, values out."""
