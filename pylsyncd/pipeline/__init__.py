"""From changes to queues: the buffer, the optimizer, the work queue and the backlog."""
