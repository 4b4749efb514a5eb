"""The command line: `quantkeras COMMAND ...`, one module per command.

The module of a command has HELP (a phrase), EXAMPLES, add_arguments(parser) and execute(args) ->
exit status. Whatever needs Keras is imported when the command runs: `quantkeras --help` and
programs that run without Keras must not wait for it.
"""

from .command_line import COMMANDS, main

__all__ = ["COMMANDS", "main"]
