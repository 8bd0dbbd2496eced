startTheme();
if (data.page === "run") {
  startNetwork();
  startRun();
  startTimeline();
} else startSweep();
document.documentElement.dataset.ready = "yes";
performance.mark("netfl ready");
