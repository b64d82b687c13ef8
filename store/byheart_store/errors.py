"""Everything that can go wrong and is expected to.

    ByHeartError
    ├── InvalidInput        an argument can't be accepted
    ├── UnknownMemory       no memory has this id
    ├── UnknownRecall       no logged recall has this id
    ├── AccessDenied        it lies outside of what the caller may reach
    ├── ModelUnavailable    a model can't be found, fetched or loaded
    ├── ModelMismatch       a store holds another model's vectors
    ├── StoreBusy           other writers kept the lock for too long
    └── StoreUnavailable    a store can't be opened or written

Each message is one line that says what happened and what to do next.
"""


class ByHeartError(Exception):
    """The root of all expected failures."""


class InvalidInput(ByHeartError, ValueError):
    """An argument can't be accepted."""


class UnknownMemory(ByHeartError, LookupError):
    """No memory has this id."""


class UnknownRecall(ByHeartError, LookupError):
    """No logged recall has this id."""


class AccessDenied(ByHeartError):
    """It lies outside of what the caller may reach."""


class ModelUnavailable(ByHeartError):
    """A model can't be found, fetched or loaded."""


class ModelMismatch(ByHeartError):
    """A store holds another model's vectors."""


class StoreBusy(ByHeartError):
    """Other writers kept the lock for too long."""


class StoreUnavailable(ByHeartError):
    """A store can't be opened or written."""
