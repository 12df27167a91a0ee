window.faults = [];
window.addEventListener("error", (event) => window.faults.push(String(event.message)), true);
document.addEventListener("securitypolicyviolation", (event) => window.faults.push(`refused: ${event.blockedURI}`));
