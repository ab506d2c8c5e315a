"""Benchmarks: the time of an ask and the quality of a run, against stock Ax and other optimizers.

From what is evaluated to what is read:

spaces, functions, tuning, problems      what is evaluated: search spaces, test functions, real tuning, the list of all
contestants, environments                who proposes points, and what has to be installed for it
cases, plan, entries                     what a configuration asks for, and who takes part in it
worker                                   one measurement, in a process of its own
provenance, turns, executors, progress,  jobs: what a figure rests on, when one may run, where, what a person sees
runner                                   meanwhile, and the file of their answers
traces, statistics, profiles             what is computed from whole runs
latency, regret, memory, article         a section of a configuration: its jobs, and its result
benchmark                                all sections of one configuration
words, tables, report                    what is read: on a terminal, as Markdown, and as a page with figures
"""
