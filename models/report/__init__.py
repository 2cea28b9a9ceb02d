"""Figures of a log and a checkpoint as a page. What they are is worked out in evaluation."""
