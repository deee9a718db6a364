"""What several tests share; `from helpers import ...` works in every test."""
