"""Version 3: hardware that is owned, and budgets that several clients share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Three tables; nothing that was there changes."""
    op.create_table(
        "hardware",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("price_usd", sa.Text, nullable=False),
        sa.Column("salvage_usd", sa.Text, nullable=False),
        sa.Column("bought_on", sa.String(10), nullable=False),
        sa.Column("life_days", sa.Integer, nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )
    op.create_table(
        "budgets",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("meter", sa.String(16), nullable=False),
        sa.Column("most", sa.BigInteger, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
    )
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "holds",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("budget", sa.String(128), sa.ForeignKey("budgets.name"), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("held_at", sa.String(40), nullable=False),
        sa.Column("settled_amount", sa.BigInteger, nullable=True),
        sa.Column("settled_at", sa.String(40), nullable=True),
    )
    op.create_index("ix_holds_budget", "holds", ["budget"])
    op.execute("UPDATE openbook_ledger SET value = '3' WHERE name = 'schema_version'")
