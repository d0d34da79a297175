;; Declares a second memory of 64 MB.
;; where: start
;; expect: wanted more memory than the 4MiB of rule.guest.memory
(memory $second 1000)
