"""Deployments: `hosts/*.toml` brought up on a target."""

from hubsmith.deploy.hosts import Deployment, Host, load_deployment

__all__ = ["Deployment", "Host", "load_deployment"]
