"""What people see on a terminal: tables and progress bars."""
