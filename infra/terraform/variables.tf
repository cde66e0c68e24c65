variable "region" {
  description = "AWS region of the bucket; put it where the GPUs are, transfer between regions costs money"
  type        = string
}

variable "bucket" {
  description = "Name of the bucket, unique in the world"
  type        = string
}

variable "prefix" {
  description = "Folder in the bucket for one project, without slashes at its ends"
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*$", var.prefix))
    error_message = "prefix: lower-case letters, digits and . _ - only, no slash at either end."
  }
}
