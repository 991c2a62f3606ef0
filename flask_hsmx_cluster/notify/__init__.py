"""Alarms and important events that reach somebody: what is said when, in which words, and how it is sent."""
