"""The engine: drives any number of jobs from state to state, a step at a time, without ever sleeping in one.

A step is a function of the job and of what the region looked like (:class:`~ebspub.engine.step.World`). It makes at
most the one effect that is missing and says what it waits for. The scheduler asks each region once per tick for all
its waiting jobs, and hands jobs to a thread pool only while they work.
"""
