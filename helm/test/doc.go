// Package helm holds nothing but tests of the chart in ../peal, which helm renders and
// lints, and whose objects and configuration files are then looked at. It is a module of
// its own, so that the types of Kubernetes do not become what peal needs. make helm-check
// runs it.
//
// With the tag k8s there is a part that shows the chart to a real API server of Kubernetes, and
// has Helm install, upgrade, roll back and uninstall it there. make k8s-e2e runs that one.
package helm
