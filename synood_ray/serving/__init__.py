"""The online detector: a Ray Serve application that judges the images it is sent. docs/operating/serving.md."""
