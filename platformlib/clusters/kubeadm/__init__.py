"""kubeadm: upstream Kubernetes on systemd machines with containerd."""

from platformlib.clusters.kubeadm.cluster import Kubeadm

__all__ = ["Kubeadm"]
