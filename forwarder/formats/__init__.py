"""From the common schema to the bytes a destination reads; pure."""
