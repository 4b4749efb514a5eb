"""The commands of the command line, one module each.

A module has HELP (a phrase), EXAMPLES, add_arguments(parser) and execute(args) -> exit status.
Whatever needs Keras is imported when the command runs: `quantkeras --help` and programs that run
without Keras must not wait for it.
"""
