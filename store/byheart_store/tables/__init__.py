"""Tables: how a store lies on disk, and how it is opened, read, locked and written."""
