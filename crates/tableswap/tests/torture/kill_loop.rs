//! Two updaters and two apis on one store, under kills, pauses and partitions.
