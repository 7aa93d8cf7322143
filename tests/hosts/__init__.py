"""Labs in the states that users' machines may be in: run by `make requirements`, with --host none."""
