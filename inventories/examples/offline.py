"""Kubernetes' programs and images from a folder on the host instead of the internet."""

hosts = [
    (
        "airflow.example.com",
        {
            "ssh_user": "ops",
            "_sudo": True,
            # It holds kubectl, kubeadm, kubelet, minikube-linux-amd64,
            # crictl-v1.35.0-linux-amd64.tar.gz, images.tar with Kubernetes' images, and SHA256SUMS
            # of all of these; arm64 instead of amd64 for such a host. Debian and Python packages
            # still come from their usual sources.
            "offline_dir": "/srv/airflow-offline",
            # The versions that are in the folder.
            "kubernetes_version": "1.35.8",
            "minikube_version": "1.38.1",
            "minikube_crictl_version": "1.35.0",
        },
    )
]
