"""What people see: the page shell, charts and tables shared by reports and web pages."""
