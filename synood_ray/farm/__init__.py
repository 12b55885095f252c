"""The only place that knows Ray actors: queue, pools, workers, the driver's loop."""
