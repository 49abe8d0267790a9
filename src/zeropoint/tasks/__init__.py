"""PipelineTasks: connections and configuration around the recipes, and the pipelines that use them."""
