"""What computing costs: machines and their figures, forecasts, serving, and the machine at hand. No torch."""
