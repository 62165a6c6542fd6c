// Storage-provisioner makes the volumes of minikube's default class, by minikube's own code. Its
// main program cannot be used: it elects a leader by an Endpoints lock, which the client of this
// module refuses, and there is one provisioner only.
package main

import (
	"context"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/minikube/pkg/storage"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v6/controller"
)

func main() {
	// klog needs it, and the image holds nothing but this program.
	if err := os.MkdirAll("/tmp", 0o755); err != nil {
		klog.Exit(err)
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		klog.Exit(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.Exit(err)
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		klog.Exit(err)
	}
	controller.NewProvisionController(
		client,
		"k8s.io/minikube-hostpath",
		storage.NewHostPathProvisioner("/tmp/hostpath-provisioner"),
		version.GitVersion,
		controller.LeaderElection(false),
	).Run(context.Background())
}
