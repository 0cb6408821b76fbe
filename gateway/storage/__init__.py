"""The seam to the database: transactions as functions, schema, migrations."""
